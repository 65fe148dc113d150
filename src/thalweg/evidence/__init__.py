"""From numbers to judgement: paired tests, the verdict of a race, what to use. Free of torch."""

from thalweg.evidence.looks import levels as levels
from thalweg.evidence.looks import seeds_to_decide as seeds_to_decide
from thalweg.evidence.profile import geometric_mean_ratio as geometric_mean_ratio
from thalweg.evidence.profile import performance_profile as performance_profile
from thalweg.evidence.profile import time_to_target as time_to_target
from thalweg.evidence.recommendation import recommend as recommend
from thalweg.evidence.statistics import advantages as advantages
from thalweg.evidence.statistics import holm as holm
from thalweg.evidence.statistics import minimum_seeds as minimum_seeds
from thalweg.evidence.statistics import probability_better as probability_better
from thalweg.evidence.statistics import sign_flip_interval as sign_flip_interval
from thalweg.evidence.statistics import sign_flip_p as sign_flip_p
from thalweg.evidence.summaries import Basin as Basin
from thalweg.evidence.summaries import basin as basin
from thalweg.evidence.summaries import best_of_k as best_of_k
from thalweg.evidence.summaries import interquartile_mean as interquartile_mean
from thalweg.evidence.summaries import rate_sensitivity as rate_sensitivity
from thalweg.evidence.verdict import Finals as Finals
from thalweg.evidence.verdict import judge as judge
