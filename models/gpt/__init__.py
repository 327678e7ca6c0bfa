"""The language model: GPT-2 and its modern variants, generation, and weights of Hugging Face."""

from models.gpt.model import GPT as GPT
from models.gpt.model import RUNNING as RUNNING
from models.gpt.model import SIZES as SIZES
from models.gpt.model import Cache as Cache
from models.gpt.model import chunked_cross_entropy as chunked_cross_entropy
from models.gpt.model import flops_per_token as flops_per_token
from models.gpt.model import from_hf as from_hf
from models.gpt.model import init_cache as init_cache
from models.gpt.model import num_params as num_params
from models.gpt.model import on_batch as on_batch
from models.gpt.model import to_hf as to_hf
from models.gpt.model import unboxed as unboxed
