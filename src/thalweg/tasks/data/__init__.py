"""Data: parts that are cut into batches, rules for splitting, preprocessing fitted on training data."""

from thalweg.tasks.data.part import Data as Data
from thalweg.tasks.data.part import DatasetPart as DatasetPart
from thalweg.tasks.data.part import Part as Part
from thalweg.tasks.data.part import TensorPart as TensorPart
from thalweg.tasks.data.preprocess import PCA as PCA
from thalweg.tasks.data.preprocess import ConstantFeatureWarning as ConstantFeatureWarning
from thalweg.tasks.data.preprocess import MinMax as MinMax
from thalweg.tasks.data.preprocess import Standardise as Standardise
from thalweg.tasks.data.preprocess import balanced_class_weights as balanced_class_weights
from thalweg.tasks.data.read import as_data as as_data
from thalweg.tasks.data.read import labels_of as labels_of
from thalweg.tasks.data.split import split as split
