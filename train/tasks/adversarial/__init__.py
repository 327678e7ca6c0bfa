"""The task `gan`: a generator and a discriminator that are trained against each other.

Read `options` (what a config may say), `task` (the loss of both in one step, and how images are
drawn), `evaluate` (distances, and the Parzen estimate) and `sample`.
"""
