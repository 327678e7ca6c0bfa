"""Declares the task `gan` to the launcher."""

from train.declaration import Declaration, Option, ReportWords

EVAL = (
  Option('samples', 'integer', 'images to be judged, in all [1000]', least=1),
  Option('classifier', 'text', "a classifier's workdir, whose features judge the images"),
  Option(
    'inception', 'text', "a file of weights of FID's network: see models/diffusion/inception.py"
  ),
  Option('parzen', 'text', 'the split whose likelihood 10,000 samples estimate, such as test'),
)
SAMPLE = (
  Option('samples', 'integer', 'how many images for each label [8]', least=1),
  Option(
    'label', 'texts', "the images' class: a name or number, several joined by commas [all classes]"
  ),
  Option('interpolate', 'switch', 'draw paths between pairs of latents'),
  Option('seed', 'integer', 'of all random numbers', 0),
)

TASKS = {
  'gan': Declaration(
    task='train.tasks.adversarial.task:GAN',
    options={'eval': EVAL, 'sample': SAMPLE},
    free=('task.sampling',),
    metric='val/discriminator_loss',
    report=ReportWords(
      evaluation='distances between distributions of samples',
      measures=(
        *('discriminator_loss', 'generator_loss', 'accuracy_real', 'accuracy_fake'),
        *('r1', 'loss', 'learning_rate'),
      ),
      headings={
        'discriminator_loss': 'Loss of the discriminator (chance: 1.386 = 2 ln 2; hinge: 2)',
        'generator_loss': 'Loss of the generator (chance: 0.693 = ln 2; hinge: 0)',
        'accuracy_real': 'Real images that are told to be real (chance: 50 %)',
        'accuracy_fake': 'Generated images that are told to be so (chance: 50 %)',
        'r1': "R1: real images' squared gradients times gamma / 2",
        'loss': 'Sum of the losses, which says nothing of the images',
      },
    ),
  )
}
