"""A GPT of 7.4 B parameters as they are built since Llama, on FineWeb: 2 T tokens, 4 M a step.

python launch.py train --config=gpt_7b --workdir=runs/gpt_7b
python launch.py compile --config=gpt_7b --topology=v5p:4x4x4 --workdir=runs/gpt_7b

Paper: the sizes are Mistral 7B's (Jiang et al. 2023, arXiv 2310.06825, table 1: 32 layers of width
4,096, 32 heads in 8 groups, a SwiGLU of 14,336; 60.1 % on MMLU in table 2), the training Llama 2's
(Touvron et al. 2023, arXiv 2307.09288, section 2.2: batches of 4 M tokens in windows of 4,096,
AdamW, a cosine to a tenth). Their texts are others, so neither can be compared. Tokens here are
GPT-2's, whose larger vocabulary makes 7.39 of 7.24 B parameters. Parameters are split over all
devices. Ours: not trained yet.

The text is prepared as gpt2_124m says, from datasets.load_dataset('HuggingFaceFW/fineweb').
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='language', chunk=256),
      model=dict(
        name='gpt',
        layers=32,
        heads=32,
        kv_heads=8,
        width=4096,
        mlp_width=14336,
        block_size=4096,
        positions='rope',
        norm='rms',
        mlp='swiglu',
        bias=False,
        tied=False,
        vocab_multiple=64,
        dtype='bfloat16',
        scan=True,
        remat='block',
      ),
      data=dict(
        name='text',
        dataset='./fineweb',
        separator='<|endoftext|>',
        val_fraction=0.0005,
        tokenizer='gpt2',
        block_size=4096,
        batch_size=1024,
        eval_batch_size=64,
      ),
      optimizer=dict(
        name='adamw',
        learning_rate=3e-4,
        final_learning_rate=3e-5,
        schedule='cosine',
        warmup_steps=2000,
        b2=0.95,
        weight_decay=0.1,
        clip_norm=1.0,
      ),
      train=dict(
        steps=500_000,
        accumulate=16,
        log_every=10,
        eval_every=1000,
        best='val/loss',
      ),
      mesh=dict(data=1, fsdp=-1),
      paper=dict(metric='val/loss'),
    )
  )
