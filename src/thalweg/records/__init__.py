"""What is stored and drawn: frozen records of plain values, free of torch."""

from thalweg.records.races import Answer as Answer
from thalweg.records.races import Contender as Contender
from thalweg.records.races import Direction as Direction
from thalweg.records.races import Evaluation as Evaluation
from thalweg.records.races import FinderPlan as FinderPlan
from thalweg.records.races import Finding as Finding
from thalweg.records.races import Ledger as Ledger
from thalweg.records.races import LedgerRow as LedgerRow
from thalweg.records.races import Outcome as Outcome
from thalweg.records.races import Pair as Pair
from thalweg.records.races import Plan as Plan
from thalweg.records.races import Race as Race
from thalweg.records.races import Recommendation as Recommendation
from thalweg.records.races import ShortRate as ShortRate
from thalweg.records.races import Stage as Stage
from thalweg.records.races import Standing as Standing
from thalweg.records.races import Trace as Trace
from thalweg.records.races import Verdict as Verdict
from thalweg.records.races import from_data as from_data
from thalweg.records.races import to_data as to_data
