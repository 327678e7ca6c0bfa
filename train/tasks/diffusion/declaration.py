"""Declares the tasks `diffusion` and `consistency` to the launcher."""

from train.declaration import Declaration, Option, ReportWords

IMAGES = (
  Option('samples', 'integer', 'images to be judged, in all [1000]', least=1),
  Option('classifier', 'text', "a classifier's workdir, whose features judge the images"),
  Option(
    'inception', 'text', "a file of weights of FID's network: see models/diffusion/inception.py"
  ),
)
LIKELIHOOD = (
  Option(
    'images', 'integer', 'bits/dim of so many images of the evaluation split, 0: of all', least=0
  ),
  Option(
    'probes', 'integer', 'random vectors for the trace in the ODE, 0: the exact trace [1]', least=0
  ),
)
SAMPLE = (
  Option('samples', 'integer', 'how many images for each label [8]', least=1),
  Option(
    'label', 'texts', "the images' class: a name or number, several joined by commas [all classes]"
  ),
  Option('prompt', 'texts', 'a caption, for a model of captions; given again, images for each'),
  Option('path', 'switch', 'also draw how the images come from noise'),
  Option('interpolate', 'switch', 'draw paths between images of the evaluation split'),
  Option('inpaint', 'text', 'an image file, of which a part is drawn anew'),
  Option('mask', 'text', 'an image file, white where --inpaint draws'),
  Option('colourise', 'text', 'an image file, of which only the grey is kept'),
  Option('classifier', 'text', "a classifier's workdir, to guide the images"),
  Option('latents', 'switch', 'write arrays (.npy), for the decoder of an autoencoder'),
  Option('seed', 'integer', 'of all random numbers', 0),
)

TASKS = {
  'diffusion': Declaration(
    task='train.tasks.diffusion.task:Diffusion',
    options={'eval': (*LIKELIHOOD, *IMAGES), 'sample': SAMPLE},
    free=('task.sampling',),
    metric='val/loss',
    report=ReportWords('bounds in bits a dimension'),
  ),
  'consistency': Declaration(
    task='train.tasks.diffusion.consistency:Consistency',
    options={'eval': IMAGES, 'sample': SAMPLE},
    free=('task.sampling',),
    metric='val/loss',
    report=ReportWords('distances between distributions of samples'),
  ),
}
