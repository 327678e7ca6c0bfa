"""GPT of 11.4 M parameters on Python's own library, 10 MB of source: for a GPU, or an evening.

python launch.py train --config=gpt_python --workdir=runs/gpt_python
python launch.py sample --workdir=runs/gpt_python --prompt='class Stack:'

Paper: none; no number on this text is published. Each tenth file is held out; 2,000 steps are about
eleven epochs. Ours: not measured yet; gpt_python_cpu, of 0.4 M parameters, has 1.90 bits a byte,
3.50 nats a token of its own tokens.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='language', prompt='def '),
      model=dict(
        name='gpt',
        layers=6,
        heads=6,
        width=384,
        block_size=512,
        positions='rope',
        norm='rms',
        mlp='swiglu',
        bias=False,
        qk_norm=True,
        dropout=0.1,
      ),
      data=dict(
        name='text',
        dataset='python',
        tokenizer='bpe:2048',
        block_size=512,
        batch_size=32,
      ),
      optimizer=dict(
        name='muon',
        learning_rate=4e-3,
        schedule='linear',
        warmup_steps=100,
        b2=0.98,
        weight_decay=0.1,
        clip_norm=1.0,
      ),
      train=dict(steps=2000, log_every=20, eval_every=200, best='val/loss'),
      paper=dict(metric='val/bits_per_byte'),
    )
  )
