"""Racing optimizers: a plan that is fixed before the first trial, and the run that follows it."""

from thalweg.racing.plan import Entry as Entry
from thalweg.racing.plan import Workloads as Workloads
from thalweg.racing.plan import make_plan as make_plan
from thalweg.racing.plan import workload_of as workload_of
from thalweg.racing.rounds import largest_round as largest_round
from thalweg.racing.rounds import updates_at_most as updates_at_most
from thalweg.racing.run import Finished as Finished
from thalweg.racing.run import run as run
