"""One of several processes that join and then do something: `together ADDRESS COUNT INDEX DEED`.

As launch.py does, but without a run: a deed is what befalls process 1, or with a 0 process 0.
"""

import os
import signal
import sys
import time

import launch
from train.errors import UserError
from train.runtime import host, peers, processes
from train.runtime.watchdog import Watchdog


def run(argv):
  _, address, count, index, deed = argv
  processes.join(
    address,
    int(count),
    int(index),
    init_timeout=12 if deed == 'absent' else 60,
    heartbeat_timeout=4,
  )
  print('joined', flush=True)
  victim = int(deed[-1]) if deed[-1].isdigit() else 1
  if deed == 'own':
    raise UserError(f'a mistake in process {index}')
  if int(index) == victim:
    befall(deed.rstrip('01'))
  if deed == 'late' and int(index) != victim:
    peers.PATIENCE = 3
    peers.gather('start')
  if deed != 'finish':
    wait_in_vain(deed)


def befall(deed):
  if deed in ('SIGKILL', 'SIGSTOP', 'SIGABRT'):
    os.kill(os.getpid(), getattr(signal, deed))
  if deed == 'abort':
    os.write(2, b'last words of C++\n')
    os.abort()
  if deed == 'mistake':
    raise UserError('no data here')
  if deed == 'bug':
    raise ZeroDivisionError('1 / 0')
  if deed == 'interrupt':
    raise KeyboardInterrupt


def wait_in_vain(deed):
  watchdog = Watchdog(2 if deed.startswith('stuck') else 0, os.curdir)
  watchdog.step()
  time.sleep(120)


if __name__ == '__main__':
  host.open_streams()
  launch.run = run
  sys.exit(peers.end(launch.main(sys.argv)))
