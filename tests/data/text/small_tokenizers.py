"""Small tokenizers of the kinds that language models of today have, made with `tokenizers`."""

import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors
from tokenizers import pre_tokenizers as pre

from data.text.bpe import byte_symbols

MERGES = [('h', 'e'), ('l', 'l'), ('he', 'll'), ('hell', 'o'), ('o', 'r')]
WORDS = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+"
SPACE = '▁'
KINDS = ('smollm', 'qwen', 'llama2', 'llama3')


def small(kind: str) -> Tokenizer:
  """Returns a tokenizer with the parts that the named model's file has."""
  merges = [('Ġ', 'w'), *MERGES] if kind != 'llama2' else [(SPACE, 'hello'), *MERGES]
  merges = MERGES + [pair for pair in merges if pair not in MERGES]
  if kind == 'llama2':
    alphabet = ['<unk>', '<s>', '</s>', *(f'<0x{i:02X}>' for i in range(256))]
    alphabet += [SPACE, *'helowrd']
  else:
    alphabet = list(byte_symbols())
  vocab = {token: i for i, token in enumerate([*alphabet, *(a + b for a, b in merges)])}
  fallback = {'byte_fallback': True, 'fuse_unk': True, 'unk_token': '<unk>'}
  options = fallback if kind == 'llama2' else {'ignore_merges': kind == 'llama3'}
  found = Tokenizer(models.BPE(vocab, merges, **options))
  special = ['<unk>', '<s>', '</s>'] if kind == 'llama2' else ['<s>', '</s>', '<|im start|>']
  if kind == 'llama2':
    before = [normalizers.Prepend(SPACE), normalizers.Replace(' ', SPACE)]
    found.normalizer = normalizers.Sequence(before)
    parts = [decoders.Replace(SPACE, ' '), decoders.ByteFallback(), decoders.Fuse()]
    found.decoder = decoders.Sequence([*parts, decoders.Strip(' ', 1, 0)])
  else:
    words = pre.Digits(True) if kind == 'smollm' else pre.Split(Regex(WORDS), 'isolated')
    level = pre.ByteLevel(add_prefix_space=False, use_regex=kind == 'smollm')
    found.pre_tokenizer = pre.Sequence([words, level])
    found.decoder = decoders.ByteLevel()
  if kind == 'qwen':
    found.normalizer = normalizers.NFC()
  found.add_special_tokens([AddedToken(token, special=True) for token in special])
  if kind.startswith('llama'):
    begin = ('<s>', found.token_to_id('<s>'))
    found.post_processor = processors.TemplateProcessing('<s> $A', special_tokens=[begin])
  return found


def written(kind: str, folder: pathlib.Path) -> Tokenizer:
  """Writes a folder with that tokenizer, whose texts end at '</s>'."""
  folder.mkdir(parents=True, exist_ok=True)
  (found := small(kind)).save(str(folder / 'tokenizer.json'))
  (folder / 'tokenizer_config.json').write_text('{"eos_token": "</s>"}')
  return found
