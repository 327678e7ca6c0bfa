"""Transformer base of Vaswani et al. 2017 on WMT14, English to German: 63 M parameters.

python launch.py train --config=transformer_base --workdir=runs/transformer_base
python launch.py eval --workdir=runs/transformer_base --average=5 --beams=4

WMT14 is TFDS's set of that name (4.5 M pairs); French: --config.data.dataset=wmt14_translate/fr-en
--config.data.target=fr --config.data.tokenizer=bpe:32000.

Paper: Vaswani et al. 2017 (arXiv 1706.03762): 27.3 % BLEU on newstest2014 (table 2), tokenised and
with compounds split. What sacrebleu says of such a system is about 26, and `test/bleu` is
sacrebleu's: the two are not one number. Network, schedule, smoothing, places a batch, the mean of
the last five checkpoints, 4 beams and a penalty of 0.6 are the paper's; the pieces are learnt here.
Ours: not trained yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='translation', label_smoothing=0.1, chunk=16),
      model=dict(name='transformer_base', dtype='bfloat16'),
      data=dict(
        name='parallel',
        dataset='wmt14_translate/de-en',
        source='en',
        target='de',
        tokenizer='bpe:37000',
        test_split='test',
        block_size=128,
        buckets=(16, 24, 32, 48, 64, 96),
        batch_tokens=25_000,
      ),
      optimizer=dict(
        name='adam',
        learning_rate=7e-4,  # 512^-0.5 4000^-0.5, the peak of equation 3
        schedule='rsqrt',
        warmup_steps=4000,
        b2=0.98,
        eps=1e-9,
      ),
      train=dict(
        steps=100_000,
        log_every=100,
        eval_every=10_000,
        checkpoint_every=1500,
        keep=5,
        best='val/loss',
      ),
      paper=dict(
        title='Attention Is All You Need',
        metric='test/bleu',
        value=27.3,
        note='tokenised, compounds split; about 26 in the BLEU of sacrebleu, which is ours',
      ),
    )
  )
