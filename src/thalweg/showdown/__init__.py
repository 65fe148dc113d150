"""Racing optimizers: a plan that is fixed before the first trial, and the run that follows it."""

from thalweg.showdown.plan import Entry as Entry
from thalweg.showdown.plan import make_plan as make_plan
from thalweg.showdown.plan import trials_at_most as trials_at_most
from thalweg.showdown.run import run as run
