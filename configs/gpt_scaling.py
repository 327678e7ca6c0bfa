"""A family of GPTs on Python's own library, for the law L(N, D) = E + A / N^alpha + B / D^beta.

python launch.py train --config=gpt_scaling --workdir=runs/scaling_3_400

One run has one size and one budget of tokens, at whose end its learning rate is 0; the report of
six runs or more, of at least three sizes and three budgets, fits the law and draws it:

  for layers in 2 3 4; do for steps in 64 160 400; do
    python launch.py train --config=gpt_scaling --workdir=runs/scaling_${layers}_$steps \
      --config.model.layers=$layers --config.model.heads=$layers \
      --config.model.width=$((32 * layers)) --config.train.steps=$steps
  done; done
  python launch.py report --workdir=$(echo runs/scaling_* | tr ' ' ,) --output=scaling.html

Paper: Hoffmann et al., Training compute-optimal large language models, 2022 (arXiv 2203.15556),
section 3.3: alpha = 0.34, beta = 0.28, E = 1.69 nats, of other text and tokens and larger runs.
Ours: these nine runs, five minutes on a CPU, go from 2.49 to 1.38 nats a byte and are too small to
say more than alpha = 0.5 +- 0.9, beta = 0.6 +- 0.3, E = 0.8 +- 0.9.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='language', sample_tokens=0),
      model=dict(
        name='gpt',
        layers=3,
        heads=3,
        width=96,
        block_size=128,
        positions='rope',
        norm='rms',
        mlp='swiglu',
        bias=False,
        qk_norm=True,
      ),
      data=dict(
        name='text',
        dataset='python',
        tokenizer='bytes',
        eval_split='validation[:25%]',
        block_size=128,
        batch_size=16,
        eval_batch_size=128,
      ),
      optimizer=dict(
        name='muon',
        learning_rate=8e-3,
        schedule='linear',
        warmup_steps=30,
        b2=0.98,
        weight_decay=0.1,
        clip_norm=1.0,
      ),
      train=dict(steps=400, log_every=50, best='val/loss'),
      paper=dict(title='Hoffmann et al. 2022', metric='val/loss'),
    )
  )
