"""The language model: GPT-2 and its modern variants, generation, and public weights.

Read in this order:

1. `model.py`: the network, field by field; how it trains and how it decodes with a cache. It is
   made of `models/attention.py` and `models/transformer.py`, which diffusion's transformers share.
2. `fields.py`, `parameters.py`: which values its fields may have; the table of its parameters, and
   the counts that papers compare.
3. `loss.py`: cross-entropy without ever holding all logits.
4. `context.py`: attention where devices share the tokens of long texts.
5. `sampling.py`, `generation.py`: how a token is chosen; the compiled loop that writes texts.
6. `language_model.py`: the contract that other language models meet, to be trained and sampled too.
7. `huggingface.py`: public weights in and out. Call `huggingface.from_hf` and `to_hf`. `layout.py`
   is the loop over a table of names; `gpt2.py` and `llama.py` are the tables.

The room imports `models.{attention, transformer, axes, forms, ops}` and itself. It is imported by
`train.tasks.language`, and by `models.diffusion.text_encoder`, whose network is a GPT that sees
both ways.
"""

from models.gpt.language_model import LanguageModel as LanguageModel
from models.gpt.language_model import UncachedLanguageModel as UncachedLanguageModel
from models.gpt.loss import chunked_cross_entropy as chunked_cross_entropy
from models.gpt.model import GPT as GPT
from models.gpt.model import RUNTIME_FIELDS as RUNTIME_FIELDS
from models.gpt.model import SIZES as SIZES
from models.gpt.model import Cache as Cache
from models.gpt.parameters import flops_per_token as flops_per_token
from models.gpt.parameters import num_params as num_params
from models.transformer import unboxed as unboxed
