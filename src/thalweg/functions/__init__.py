"""Functions of a few variables: safe expressions with derivatives, test functions, analysis, traces."""

from thalweg.functions.expression import Expression as Expression
from thalweg.functions.expression import parse as parse
