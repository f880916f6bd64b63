"""placeholder until the helper's lands"""
from pydantic import BaseModel, ConfigDict
class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")
    weights: str = "auto"
    seed: int = 0
