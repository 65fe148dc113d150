"""From numbers to judgement: paired tests, intervals, and the verdict of a race. Free of torch."""

from thalweg.evidence.statistics import advantages as advantages
from thalweg.evidence.statistics import holm as holm
from thalweg.evidence.statistics import minimum_seeds as minimum_seeds
from thalweg.evidence.statistics import probability_better as probability_better
from thalweg.evidence.statistics import sign_flip_interval as sign_flip_interval
from thalweg.evidence.statistics import sign_flip_p as sign_flip_p
from thalweg.evidence.verdict import Finals as Finals
from thalweg.evidence.verdict import judge as judge
