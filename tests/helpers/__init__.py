"""What tests share: small networks and files, suites, boards, made-up runs."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
