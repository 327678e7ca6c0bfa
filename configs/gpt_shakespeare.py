"""GPT of 10.6 M parameters on the characters of Shakespeare: minutes on a GPU.

python launch.py train --config=gpt_shakespeare --config.data.dataset=tiny_shakespeare.txt

Paper: none; nanoGPT's README (github.com/karpathy/nanoGPT) has 1.4697 nats a character for this
network and these settings, the best of its estimates on 200 random batches. The number here is of
the whole validation split in windows of 256 characters, at its best step: `eval --step=best`.
Ours: not measured yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='language'),
      model=dict(
        name='gpt',
        layers=6,
        heads=6,
        width=384,
        block_size=256,
        bias=False,
        dropout=0.2,
        dtype='bfloat16',
      ),
      data=dict(
        name='text',
        dataset='tiny_shakespeare',
        tokenizer='characters',
        block_size=256,
        batch_size=64,
      ),
      optimizer=dict(
        name='adamw',
        learning_rate=1e-3,
        final_learning_rate=1e-4,
        schedule='cosine',
        warmup_steps=100,
        b2=0.99,
        weight_decay=0.1,
        clip_norm=1.0,
      ),
      train=dict(steps=5000, log_every=50, eval_every=250, best='val/loss'),
      paper=dict(
        title='nanoGPT',
        metric='val/loss',
        value=1.4697,
        note="nanoGPT's number is an estimate on 200 random batches",
      ),
    )
  )
