"""Transformer of 0.4 M parameters, English numbers to German: a minute on a laptop, no download.

python launch.py train --config=translation_numerals --workdir=runs/translation_numerals
python launch.py translate --workdir=runs/translation_numerals --prompt='seven hundred and twelve'

Paper: none; no number on these words is published. 'forty-two' is 'zweiundvierzig': units come
before tens, and a number is one word. Tests are of numbers that no training sentence has.
Ours: 99.6 % of these to the letter, 0.108 nats a piece (seed 0; smoothed labels cost some nats).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='translation'),
      model=dict(name='transformer', layers=2, heads=4, width=96, mlp_width=192, dropout=0.0),
      data=dict(
        name='parallel',
        dataset='numerals',
        tokenizer='bpe:320',
        test_split='test',
        block_size=48,
        batch_tokens=2048,
      ),
      optimizer=dict(name='adam', learning_rate=3e-3, schedule='linear', warmup_steps=100, b2=0.98),
      train=dict(steps=600, log_every=50, best='val/loss'),
      paper=dict(metric='test/exact_share'),
    )
  )
