"""GPT-2 of 124 M parameters on OpenWebText: 600,000 steps of 0.49 M tokens.

python launch.py train --config=gpt2_124m --workdir=runs/gpt2_124m
python launch.py train --config=gpt2_124m --workdir=runs/gpt2_fineweb \
  --config.data.dataset=./fineweb10B --config.paper.value=3.28 --config.train.steps=20345 \
  --config.optimizer.warmup_steps=700 --config.optimizer.final_learning_rate=0.0

Paper: Radford, Wu, Child, Luan, Amodei, Sutskever, Language models are unsupervised multitask
learners, 2019. nanoGPT's README (github.com/karpathy/nanoGPT), whose settings these are, has
2.85 nats a token on OpenWebText, and 3.12 for OpenAI's own weights there; llm.c's 10 B tokens of
FineWeb (the second command) end at 3.28. Ours: not trained yet.

The text is a folder of files whose documents stand apart by <|endoftext|>; with these 2,000 the
last is for validation:

  import datasets, pathlib
  d = datasets.load_dataset('Skylion007/openwebtext', split='train')
  for i in range(2000):
    text = '<|endoftext|>'.join(d.shard(2000, i)['text'])
    pathlib.Path(f'openwebtext/{i:04}.txt').write_text(text)

TFDS has no OpenWebText; of those it has, c4/webtextlike is nearest (--config.data.dataset). The
tokens are GPT-2's, whose vocabulary files are in $GPT2_BPE_DIR.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='language', chunk=128),
      model=dict(name='gpt2', bias=False, vocab_multiple=64, dtype='bfloat16'),
      data=dict(
        name='text',
        dataset='./openwebtext',
        separator='<|endoftext|>',
        val_fraction=0.0005,
        tokenizer='gpt2',
        block_size=1024,
        batch_size=480,
        eval_batch_size=96,
      ),
      optimizer=dict(
        name='adamw',
        learning_rate=6e-4,
        final_learning_rate=6e-5,
        schedule='cosine',
        warmup_steps=2000,
        b2=0.95,
        weight_decay=0.1,
        clip_norm=1.0,
      ),
      train=dict(
        steps=600_000,
        accumulate=5,
        log_every=10,
        eval_every=1000,
        best='val/loss',
      ),
      paper=dict(title='nanoGPT', metric='val/loss', value=2.85),
    )
  )
