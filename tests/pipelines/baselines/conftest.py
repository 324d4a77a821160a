import sys
from pathlib import Path

# The stand-in models and scenes lie beside the pipelines' own tests.
sys.path.append(str(Path(__file__).parents[1]))
