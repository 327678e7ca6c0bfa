"""LeNet-5 on MNIST, 20 epochs: 0.95 % test error as it stands, 0.8 % with distorted training data.

python launch.py train --config=lenet_mnist --workdir=runs/lenet_mnist
python launch.py train --config=lenet_mnist --workdir=runs/lenet_mnist_distorted \
  --config.task.augment='affine(rotation=10.0, scale=0.1, shear=0.1, shift=2.0)' \
  --config.model=lenet --config.optimizer.weight_decay=5e-4 --config.paper.value=0.008

Paper: LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition,
1998, section III-C: 0.95 % (20 passes), 0.8 % with distortions. Ours: 0.85 +- 0.03 % (5 seeds);
0.47 +- 0.02 % with distortions (5 seeds of the ReLU and max-pool network; of LeNet-5 itself
0.56 +- 0.08 %, without --config.model=lenet). Versions, commit and each seed's number are in
docs/results.

The architecture is the paper's (with a linear output in place of the RBF units), the training is
today's: cross-entropy and SGD with momentum, for squared error and diagonal Levenberg-Marquardt.
Nothing is chosen on the test set: what counts is the last step.
"""

from ml_collections import ConfigDict

EPOCH = 60_000 / 128  # steps


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='classify', mean=0.1307, std=0.3081),
      model=dict(name='lenet5'),
      data=dict(name='images', dataset='mnist', batch_size=128),
      optimizer=dict(
        name='sgd',
        learning_rate=0.05,
        schedule='cosine',
        warmup_steps=round(EPOCH),
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-3,
      ),
      train=dict(steps=round(20 * EPOCH), log_every=100, eval_every=round(4 * EPOCH)),
      paper=dict(title='LeCun et al. 1998', metric='test/error', value=0.0095),
    )
  )
