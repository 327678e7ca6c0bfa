"""RNNsearch of 8.5 M parameters on Multi30k, English to German, and its like without attention.

python launch.py train --config=rnnsearch --workdir=runs/rnnsearch
python launch.py eval --workdir=runs/rnnsearch
python launch.py train --config=rnnsearch --workdir=runs/rnnenc --config.model.attention=False

Paper: Bahdanau, Cho and Bengio, Neural machine translation by jointly learning to align and
translate, ICLR 2015, arXiv 1409.0473; rnnsearch_wmt14 has its own sizes and data. No number of it
on Multi30k is published. Networks of GRUs with attention, text alone, have about 38 BLEU from
English to German on the test of 2016, lower-cased and tokenised (`test/bleu_lc_tok` here); that
figure is from memory. What the paper claims is the gap on long sentences (its figure 2): `eval`
prints BLEU by length, and the third command trains the network to compare with.
Ours: not trained yet, 0.0 %.

The data are a folder with train.en.gz, train.de.gz, val and test_2016_flickr likewise, as
github.com/multi30k/dataset has them in data/task1/raw. From English to French:
--config.data.target=fr.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='translation', label_smoothing=0.1, bleu_sentences=200),
      model=dict(name='rnnsearch', first_values='scaled', dropout=0.3),
      data=dict(
        name='parallel',
        dataset='./multi30k',
        tokenizer='bpe:8000',
        block_size=64,
        buckets=(12, 16, 20, 28, 40),
        batch_tokens=2048,
        eval_split='val',
        test_split='test_2016_flickr',
      ),
      optimizer=dict(
        name='adam',
        learning_rate=2e-3,
        schedule='cosine',
        warmup_steps=200,
        clip_norm=1.0,
      ),
      train=dict(
        steps=6000, log_every=50, eval_every=500, ema_decay=0.999, best='val/bleu', best_mode='max'
      ),
      paper=dict(title='Bahdanau et al. 2015', metric='test/bleu'),
    )
  )
