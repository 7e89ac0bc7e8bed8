from .finding import DuplicateGroup as DuplicateGroup
from .finding import DuplicateImage as DuplicateImage
from .finding import DuplicatePair as DuplicatePair
from .finding import Duplicates as Duplicates
from .finding import find_duplicates as find_duplicates
