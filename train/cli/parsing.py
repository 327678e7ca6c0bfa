"""Parses a command line: its verb, its options, and its overrides of config keys."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from absl import flags

from train import declaration
from train.cli import arguments, commands, usage
from train.cli.commands import VERBS
from train.declaration import Option
from train.errors import UserError, shown, unknown

ALWAYS = (
  Option('help', 'switch', 'print this and exit', False),
  Option('traceback', 'switch', "show a user error's traceback, too", False),
)
NAMES = {'h': 'help'}
Given = tuple[str, str | None]
"""The name of an option or 'config.KEY', and the text of its value: None where it has none."""


def define(values: flags.FlagValues) -> dict[str, Option]:
  """Defines every option of every verb and task, once; returns them by name."""
  options = {
    option.name: option
    for verb in VERBS
    for option in (*ALWAYS, *VERBS[verb].options, *sum(commands.task_options(verb).values(), ()))
  }
  for option in options.values():
    declaration.define(option, values)
  return options


def parse(
  words: Sequence[str], options: Mapping[str, Option], values: flags.FlagValues
) -> tuple[str | None, dict[str, str]]:
  """Returns the verb, if there is one, and the overrides, key -> text; `values` takes the options.

  Overrides of a whole section come before those of its keys, in whatever order they were given.

  Raises:
    UserError: a word that is no verb, an option that is none of the verb's, or a wrong value.
  """
  plain, given = split(words, options)
  if 'help' in plain[:2]:
    plain.remove('help')
    given.append(('help', 'true'))
  verb = plain.pop(0) if plain else None
  if verb is not None and verb not in VERBS:
    raise unknown(_told(verb), verb, 'no such verb', VERBS)
  check_names(verb, given, options)
  if plain and verb and VERBS[verb].argument:
    given.append((VERBS[verb].argument, plain.pop(0)))
  if plain:
    raise stray_word(plain[0])
  overrides = {}
  for name, text in once(given, options):
    if name.startswith('config.'):
      overrides[name.removeprefix('config.')] = text
    else:
      set_value(values, options[name], text)
  values.mark_as_parsed()
  return verb, dict(sorted(overrides.items(), key=lambda item: item[0].count('.')))


def split(words: Sequence[str], options: Mapping[str, Option]) -> tuple[list[str], list[Given]]:
  """Returns the words that are no options, and the options with the texts of their values."""
  plain: list[str] = []
  given: list[Given] = []
  rest = list(words)
  while rest:
    word = rest.pop(0)
    if not word.startswith('-'):
      plain.append(word)
    elif word.strip('-'):
      given.append(option_of(word, rest, options))
  return plain, given


def option_of(word: str, rest: list[str], options: Mapping[str, Option]) -> Given:
  """Returns an option, whose value may be the next word, which is then taken from the `rest`."""
  name, equals, text = word.lstrip('-').partition('=')
  name = NAMES.get(name, name)
  if equals:
    return name, text
  if name in options and options[name].kind == 'switch':
    return name, 'true'
  positive = name.removeprefix('no')
  if name not in options and positive in options and options[positive].kind == 'switch':
    return positive, 'false'
  takes_value = name in options or name.startswith('config.')
  return name, rest.pop(0) if takes_value and rest and not rest[0].startswith('--') else None


def check_names(verb: str | None, given: Sequence[Given], options: Mapping[str, Option]) -> None:
  """Raises UserError for an option that the verb does not take."""
  choices = commands.all_options(verb) if verb else list(options)
  for name, text in given:
    if name in choices or name.startswith('config.') or name in [x.name for x in ALWAYS]:
      continue
    typed = _told(f'--{name}' if text is None else f'--{name}={text}')
    others = [other for other in VERBS if name in commands.all_options(other)]
    what = f'no option of {verb}' if verb else 'no such option'
    if verb in ('train', 'eval', 'sample', 'translate') and name.partition('.')[0] in config_keys():
      what += f' (did you mean --config.{name}?)'
    elif others:
      what = f'an option of {", ".join(others)}, not of {verb}'
    raise unknown(typed, name, what, choices)


def config_keys() -> list[str]:
  """Returns the first parts of the keys of a config."""
  from train import config, sections  # heavy, and asked for after a mistake alone

  return [*sections.SECTIONS, *config.parameters_of(sections.settings)]


def once(given: Sequence[Given], options: Mapping[str, Option]) -> Iterator[tuple[str, str]]:
  """Yields the options with their texts; raises UserError for one without or given twice."""
  seen: dict[str, str] = {}
  for name, text in given:
    typed = _told(f'--{name}')
    option = options.get(name)
    if text is None or (text == '' and option and option.kind == 'text' and option.default != ''):
      raise UserError(f'{typed}: needs a value, as in {typed}=VALUE')
    if name in seen and not (option and option.kind == 'texts'):
      raise UserError(f'{typed}: given twice, {shown(seen[name])} and {shown(text)}; give one')
    seen[name] = text
    yield name, text


def set_value(values: flags.FlagValues, option: Option, text: str) -> None:
  """Gives an option its value; raises UserError for a text that is none of its kind."""
  try:
    values[option.name].parse(text)
    value: Any = values[option.name].value
  except flags.IllegalFlagValueError:
    refuse(option, text)
  if option.kind == 'number' and not math.isfinite(value):
    refuse(option, text)


def refuse(option: Option, text: str) -> NoReturn:
  """Raises the UserError for a text that is no value of the option."""
  typed = f'--{option.name}={_told(text)}'
  if option.kind == 'choice':
    raise unknown(typed, text, 'no such choice', option.choices)
  raise UserError(f'{typed}: must be {rule(option)}')


def rule(option: Option) -> str:
  """Returns the values of an option in words."""
  kinds: dict[str, Any] = {'integer': 'a whole number', 'switch': 'true or false'}
  bounds = [
    f'{words} {bound:g}'
    for words, bound in (('at least', option.least), ('at most', option.most))
    if bound is not None
  ]
  return ', '.join([kinds.get(option.kind, 'a finite number'), *bounds])


def stray_word(word: str) -> UserError:
  """Returns the error for a word beside the verb, with what may have been meant by it."""
  said = _told(word)
  name = word.partition('=')[0]
  if '=' in word:
    near = f'--{said}' if '.' not in name else f'--config.{said.removeprefix("config.")}'
  elif word in usage.configs(arguments.CONFIGS) or word.endswith('.py'):
    near = f'--config={said}'
  elif os.path.isdir(word):
    near = f'--workdir={said}'
  else:
    near = ''
  hint = f' (did you mean {near}?)' if near else ''
  return UserError(f'{said}: one verb at a time{hint}; values are given as --option=value')


def _told(word: str) -> str:
  """Returns a word for an error message: short, and with control characters escaped."""
  return shown(word)[1:-1]
