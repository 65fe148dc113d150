"""The Python calls: they wire the parts together, keep what was done, and draw it."""

import gc

# Importing torch makes two hundred thousand objects that stay; to look through them for garbage meanwhile
# takes a fifth of the time.
_collecting = gc.isenabled()
gc.disable()
try:
    from thalweg.api.batch import BatchSize as BatchSize
    from thalweg.api.batch import find_batch_size as find_batch_size
    from thalweg.api.landscape import loss_landscape as loss_landscape
    from thalweg.api.race import Showdown as Showdown
    from thalweg.api.race import showdown as showdown
    from thalweg.api.rate import find_lr as find_lr
    from thalweg.api.rate import find_lrs as find_lrs
    from thalweg.api.sampling import Sampling as Sampling
    from thalweg.api.sampling import compare_sampling as compare_sampling
    from thalweg.api.several import Showdowns as Showdowns
    from thalweg.api.several import showdowns as showdowns
    from thalweg.api.single import Training as Training
    from thalweg.api.single import train as train
finally:
    if _collecting:
        gc.enable()
