"""Where data come from. One module per source; all of them end in a `SourceManifest` per site.

`load` gives {site: manifest}, with the server's own held-out set, if there is one, under "public". Nothing
here de-identifies: items go to the intake, which is the identity boundary; arrays are declared public.
"""

from fedimg.sources.config import DataConfig
from fedimg.sources.load import load
from fedimg.sources.manifest import PUBLIC, PublicArrays, SourceManifest, declared

__all__ = ["PUBLIC", "DataConfig", "PublicArrays", "SourceManifest", "declared", "load"]
