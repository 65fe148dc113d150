"""Racing optimizers: a plan that is fixed before the first trial, and the run that follows it."""

from thalweg.racing.plan import Entry as Entry
from thalweg.racing.plan import make_plan as make_plan
from thalweg.racing.run import first_round as first_round
from thalweg.racing.run import run as run
