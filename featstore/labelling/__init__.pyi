from .centres import ClassCentre as ClassCentre
from .centres import TypicalImage as TypicalImage
from .centres import find_centres as find_centres
from .choosing import NextImage as NextImage
from .choosing import NextImages as NextImages
from .choosing import next_to_label as next_to_label
