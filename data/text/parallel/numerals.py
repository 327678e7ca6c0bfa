"""An embedded parallel set: numbers in English, German and French words.

It needs no download, and yet has what attention is for: German says the ones before the tens
(twenty-three is dreiundzwanzig), French counts by twenties (ninety-one is quatre-vingt-onze).
"""

import functools
import re
from collections.abc import Callable

import numpy as np

DRAWN = 20_000
HELD_OUT = 500  # numbers for validation, and as many for the test


@functools.cache
def splits() -> dict[str, tuple[int, ...]]:
  """Returns split -> its numbers, of one to six digits; the same on every machine, none twice."""
  rng = np.random.default_rng(0)
  digits = rng.integers(1, 7, DRAWN)
  unique = tuple(dict.fromkeys(rng.integers(0, 10**digits).tolist()))
  validation, test = unique[:HELD_OUT], unique[HELD_OUT : 2 * HELD_OUT]
  return {'train': unique[2 * HELD_OUT :], 'validation': validation, 'test': test}


def in_words(number: int, language: str) -> str:
  """Returns the name of a number from 0 to 999,999."""
  return LANGUAGES[language](number)


def _words(text: str) -> list[str]:
  return text.split()


# -------- English --------

_EN = _words("""zero one two three four five six seven eight nine ten eleven twelve thirteen
  fourteen fifteen sixteen seventeen eighteen nineteen""")
_EN_TENS = _words('- - twenty thirty forty fifty sixty seventy eighty ninety')


def _english(number: int) -> str:
  if number < 20:
    return _EN[number]
  if number < 100:
    tens, ones = divmod(number, 10)
    return _EN_TENS[tens] + (f'-{_EN[ones]}' if ones else '')
  if number < 1000:
    hundreds, rest = divmod(number, 100)
    return f'{_EN[hundreds]} hundred' + (f' and {_english(rest)}' if rest else '')
  thousands, rest = divmod(number, 1000)
  joint = ' and ' if 0 < rest < 100 else ' '
  return f'{_english(thousands)} thousand' + (f'{joint}{_english(rest)}' if rest else '')


# -------- German --------

_DE = _words("""null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn
  vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn""")
_DE_TENS = _words('- - zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig')


def _german(number: int) -> str:
  # One stands alone or at the end as "eins", and before what it counts as "ein".
  return _german_stem(number) + ('s' if number % 100 == 1 else '')


def _german_stem(number: int) -> str:
  if number < 20:
    return _DE[number]
  if number < 100:
    tens, ones = divmod(number, 10)
    return (f'{_DE[ones]}und' if ones else '') + _DE_TENS[tens]
  unit, name = (1000, 'tausend') if number >= 1000 else (100, 'hundert')
  count, rest = divmod(number, unit)
  return _german_stem(count) + name + (_german_stem(rest) if rest else '')


# -------- French --------

_FR = _words("""zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze
  quinze seize dix-sept dix-huit dix-neuf""")
_FR_TENS = _words("""- - vingt trente quarante cinquante soixante soixante quatre-vingt
  quatre-vingt""")


def _french(number: int) -> str:
  if number < 100:
    return _french_below_100(number) + ('s' if number == 80 else '')
  if number < 1000:
    count, rest = divmod(number, 100)
    plural = 's' if count > 1 and not rest else ''
    hundreds = ('cent' if count == 1 else f'{_FR[count]} cent') + plural
    return f'{hundreds} {_french(rest)}' if rest else hundreds
  count, rest = divmod(number, 1000)
  # Before "mille", which is a numeral, "cents" and "quatre-vingts" lose their s.
  counted = re.sub('(cent|vingt)s$', r'\1', _french(count))
  thousands = 'mille' if count == 1 else f'{counted} mille'
  return f'{thousands} {_french(rest)}' if rest else thousands


def _french_below_100(number: int) -> str:
  if number < 20:
    return _FR[number]
  tens, ones = divmod(number, 10)
  if tens in (7, 9):
    ones += 10
  if not ones:
    return _FR_TENS[tens]
  joint = ' et ' if ones in (1, 11) and tens < 8 else '-'
  return f'{_FR_TENS[tens]}{joint}{_FR[ones]}'


LANGUAGES: dict[str, Callable[[int], str]] = {'en': _english, 'de': _german, 'fr': _french}
