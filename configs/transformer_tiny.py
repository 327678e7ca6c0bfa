"""Transformer "Tiny" of 2.3 M parameters on Multi30k, English to German: an estimated hour.

python launch.py train --config=transformer_tiny --config.data.dataset=FOLDER
python launch.py eval --workdir=runs/transformer_tiny
python launch.py translate --workdir=runs/transformer_tiny --prompt='A man is on a ladder.'

FOLDER holds Multi30k's raw text (github.com/multi30k/dataset, data/task1/raw; packed or not):
train.en, train.de, val.en, ... French: --config.data.target=fr. Three hours:
--config.train.steps=40000.

Paper: Wu et al. 2021 (arXiv 2105.14462), whose text-only "Tiny" has 41.02 % BLEU on test 2016, of
lower-cased text in Moses' tokens: beside it stands `test/bleu_lc_tok`, not `test/bleu`. Network,
dropout and number of merges are its own. It trains for at most 8,000 steps of 8,192 pieces at
Noam's schedule and averages the last ten epochs; here are steps of 2,048 places whose rate falls to
0, which needs no average. Ours: not trained yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='translation', label_smoothing=0.1, chunk=4),
      model=dict(name='transformer', layers=4, heads=4, width=128, mlp_width=256, dropout=0.3),
      data=dict(
        name='parallel',
        dataset='multi30k',
        source='en',
        target='de',
        tokenizer='bpe:8000',
        eval_split='val',
        test_split='test_2016_flickr',
        block_size=64,
        batch_tokens=2048,
        buckets=(16, 24, 32),  # one pair in a hundred is longer; each length is compiled once
      ),
      optimizer=dict(
        name='adam',
        learning_rate=3e-3,
        schedule='linear',
        warmup_steps=1000,
        b2=0.98,
        eps=1e-9,
      ),
      train=dict(steps=14_000, eval_every=1000, best='val/loss'),
      paper=dict(
        title='Good for Misconceived Reasons',
        metric='test/bleu_lc_tok',
        value=41.02,
        note='lower-cased, in tokens of Moses; test/bleu is another number',
      ),
    )
  )
