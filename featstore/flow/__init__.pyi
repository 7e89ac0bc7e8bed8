from .extraction import ExtractionInterrupted as ExtractionInterrupted
from .extraction import ExtractionReport as ExtractionReport
from .transformer import BackboneFeatures as BackboneFeatures
