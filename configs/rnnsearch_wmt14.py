"""RNNsearch-50 at its paper's size, on WMT14 English to French.

python launch.py train --config=rnnsearch_wmt14 --workdir=runs/rnnsearch_wmt14
python launch.py train --config=rnnsearch_wmt14 --workdir=runs/rnnenc_wmt14 \
  --config.model.attention=False --config.paper.value=17.82

Paper: Bahdanau, Cho and Bengio, Neural machine translation by jointly learning to align and
translate, ICLR 2015, arXiv 1409.0473: 26.75 BLEU on newstest2014 (28.45 trained longer; 17.82
without attention), with 30,000 words a side, on tokenised text: these figures are from memory, and
as 13a counts (`test/bleu`) the number is another. Ours: not trained yet, 0.0 %.

What is as published: sizes, first values, Adadelta with its rates, batches of 80 sentences of like
length, gradients clipped to norm 1, sentences of 50 at most, no dropout and no average of the
weights. What is not: a joint BPE of 30,000 pieces stands for two lists of 30,000 words, so that no
word is unknown and lengths are in pieces; and all of TFDS's training pairs are used, of which the
paper selected 348 M words. `wmt14_translate/fr-en` must be prepared by TFDS, as ArrayRecord (the
message about an absent set has the command).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='translation', label_smoothing=0.0, chunk=10),
      model=dict(name='rnnsearch_paper'),
      data=dict(
        name='parallel',
        dataset='wmt14_translate/fr-en',
        source='en',
        target='fr',
        tokenizer='bpe:30000',
        block_size=50,
        buckets=(10, 15, 20, 25, 30, 40),
        batch_tokens=4000,
        batch_size=16,
        eval_split='validation',
        test_split='test',
      ),
      optimizer=dict(name='adadelta', learning_rate=1.0, rho=0.95, eps=1e-6, clip_norm=1.0),
      train=dict(steps=500_000, log_every=100, eval_every=10_000, best='val/loss', keep=2),
      paper=dict(
        title='Bahdanau et al. 2015',
        metric='test/bleu_lc_tok',
        value=26.75,
        note='the paper counts tokenised text with its case, with two lists of 30,000 words',
      ),
    )
  )
