"""What tasks that draw images share: grids as PNG files, and distances to real images.

`grids` makes pictures and reads what the verb `sample` is asked for; `batches` runs compiled
functions over a split; `features` has the networks whose features are compared; `quality` compares.
No task is declared here. Imported by the rooms of `diffusion` and `adversarial`.
"""
