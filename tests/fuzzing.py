"""How many damaged inputs each reader of files is given: few in every run, 2,000 in `make slow`."""

import os

import hypothesis

EXAMPLES = 2000 if os.environ.get('FUZZ') == '1' else 50

fuzzed = hypothesis.settings(
  max_examples=EXAMPLES,
  suppress_health_check=[
    hypothesis.HealthCheck.too_slow,
    hypothesis.HealthCheck.function_scoped_fixture,
  ],
)
