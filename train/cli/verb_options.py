"""The options of the verbs that are the same for every task."""

from train.declaration import Option

CONFIG = Option(
  'config',
  'text',
  'a file, or the name of one in configs/; --config.section.key=value changes one of its values.'
  ' To resume, --workdir alone is enough',
)
NEW_RUN = Option('workdir', 'texts', "the run's folder, new or to be resumed [runs/NAME]")
RUN = Option('workdir', 'texts', "the run's folder")
RUNS = Option('workdir', 'texts', 'the run folder; several, given again or joined by commas')
RECORDS = Option('workdir', 'texts', 'a folder for the records of the games')
STEP = Option('step', 'text', 'the checkpoint: latest, best, or the number of a step', 'latest')
AVERAGE = Option(
  'average',
  'integer',
  'the mean of the weights of that many checkpoints, this one and those before it',
  1,
  least=1,
)
SEED = Option('seed', 'integer', 'of all random numbers', 0)
HOST_TUNING = Option(
  'host_tuning',
  'switch',
  'on a CPU: restart the process once with huge pages and the XLA flags that help there',
  True,
)
OPENED = (STEP, AVERAGE, HOST_TUNING)
PROCESSES = (
  Option('coordinator_address', 'text', 'HOST:PORT of process 0, where several train one run'),
  Option('num_processes', 'integer', 'how many processes train; 1: this one alone', least=1),
  Option('process_id', 'integer', 'which of them this is, from 0', least=0),
  Option('init_timeout', 'integer', 'seconds to wait at the start for all of them', 50, least=1),
  Option(
    'heartbeat_timeout', 'integer', 'seconds after which a silent process stops all', 30, least=1
  ),
)
TRAIN = (
  Option(
    'init_from',
    'text',
    "a run folder, or one of a language model's public weights, to begin with the weights of; what"
    ' does not fit begins fresh',
  ),
  Option('dry_run', 'switch', 'print the completed config and exit', False),
  Option('summary', 'switch', "print the table of the model's layers and exit", False),
  Option('new_data', 'switch', 'resume though the data are others than those before', False),
  Option(
    'watchdog',
    'number',
    'seconds without a step after which a run is stuck and ends, 0: never [600 for several'
    ' processes, else 0]',
    least=0.0,
  ),
  Option('profile', 'text', 'START:STOP, the steps of which to leave a profile in the workdir'),
)
COMPILE = (
  Option('topology', 'text', 'the hardware: v5e:4x4, v5p:4x4x8, 2x v5e:4x4, h100:8, 4x h200:8'),
  Option('verb', 'choice', 'what is compiled', 'train', choices=('train', 'sample')),
)
REPORT = (
  Option('output', 'text', 'the page to write, instead of report.html in the workdir'),
  Option('record', 'text', "a JSON file of docs/results to write the runs' number to"),
)
CONVERT = (
  Option('from', 'text', 'public weights, a folder or a file, to make the workdir from'),
  Option('from_hf', 'text', 'an older name of --from'),
  Option('format', 'text', 'of these weights, where their content does not tell it'),
  Option('to_hf', 'text', "a folder to write the workdir's weights to, for transformers"),
  Option('to_leelaz', 'text', "a file to write the workdir's network of Go to, for leelaz"),
  Option('to_word2vec', 'text', "a file to write the workdir's word vectors to; binary if .bin"),
)
PREPARE = (
  Option(
    'dataset',
    'text',
    'its name, or a folder of images to write as shards; `prepare NAME` says it shorter',
  ),
  Option('data_dir', 'text', 'where sets lie [$TFDS_DATA_DIR, else ~/tensorflow_datasets]'),
  Option('name', 'text', "of the set that a folder becomes [the folder's]"),
)
LISTING = (
  Option('folder', 'text', 'where the run folders are; `runs FOLDER` says it shorter', 'runs'),
)
RULES = (
  Option('size', 'integer', 'of the board, until the controller sets another [9]'),
  Option(
    'komi',
    'number',
    "White's points for moving second [a network's own, else 7.5]",
  ),
  Option(
    'superko',
    'choice',
    "which repetitions are forbidden, see docs/go_rules.md [a network's own, else positional]",
    choices=('positional', 'situational', 'simple'),
  ),
  Option('suicide', 'switch', "whether a move may remove its own chain [a network's own, else no]"),
)
SEARCH = (
  Option('num_simulations', 'integer', 'of the search, for a move', 400, least=1),
  Option(
    'num_parallel_leaves',
    'integer',
    'evaluated in one batch; divides --num_simulations',
    8,
    least=1,
  ),
)
PLAY = (
  Option(
    'engine',
    'text',
    'who plays without --workdir: rollout, uniform (searches) or random [rollout]',
  ),
  Option('resign', 'number', 'resign below this chance to win, 0: never', 0.0, least=0.0, most=1.0),
  Option('game', 'text', 'play this game by hand in the terminal, as tictactoe', None),
)
PLAYERS = (
  Option(
    'first',
    'text',
    'an engine or workdir, as rollout:400, runs/go:50, or a GTP command line',
    'rollout',
  ),
  Option('second', 'text', 'its opponent, likewise', 'random'),
)
TERMS = (
  Option('games', 'integer', 'rounded up to pairs: each opening is played with both colours', 100),
  Option('opening', 'integer', 'random moves that a game begins with [a third of --size]'),
  Option('sprt', 'words', 'ELO0,ELO1: stop when this test of the first player decides'),
  Option('time', 'text', 'a clock: 300, 60+30/5 (Canadian) or 60+3x10 (byo-yomi), in seconds', ''),
  Option('timeout', 'number', 'seconds after which a silent program has lost', 60.0),
)
