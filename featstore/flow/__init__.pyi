from .extraction import ExtractionInterrupted as ExtractionInterrupted
from .extraction import ExtractionReport as ExtractionReport
from .extraction import extract as extract
from .transformer import BackboneFeatures as BackboneFeatures
