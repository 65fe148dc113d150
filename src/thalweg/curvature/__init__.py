"""What gradients and curvature tell beside where to go: so far their noise."""

from thalweg.curvature.gradients import squared_norms as squared_norms
from thalweg.curvature.noise_scale import NoiseScale as NoiseScale
from thalweg.curvature.noise_scale import gradient_variance as gradient_variance
from thalweg.curvature.noise_scale import noise_scale as noise_scale
