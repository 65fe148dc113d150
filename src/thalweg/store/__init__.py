"""Where finished trials and races are kept: one folder, one SQLite file, plain JSON records in it.

Reading and writing need no torch. Nothing in a store is ever unpickled or evaluated.
"""

from thalweg.store.opening import FILE_NAME as FILE_NAME
from thalweg.store.runs import RaceSummary as RaceSummary
from thalweg.store.runs import Store as Store
