from .limits import Limits as Limits
from .served import ServedModel as ServedModel
from .server import bound_socket as bound_socket
from .server import check_packages as check_packages
from .server import model_names as model_names
from .server import serve as serve
