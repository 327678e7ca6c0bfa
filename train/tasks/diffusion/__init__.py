"""The tasks `diffusion` and `consistency`: training, sampling and evaluation of diffusion models.

Read `options` (what a config may say), `network` (the conditional network and its denoiser), `base`
(what both tasks share: drawing images) and `task` (the loss); then `consistency`. `evaluate`, with
`batches` and `features`, is the verb `eval`; `sample`, with `grids`, the verb `sample`; `captions`
conditions on text.

The mathematics is in `models.diffusion`. Imported by the table of tasks, `train.tasks`, alone.
"""
