"""LangGraph: checkpoints of graphs and long-term memory, on any store of ContextEngine.

from aiecs.integrations.langgraph import ContextEngineSaver

async with ContextEngineSaver.from_url("sqlite:///agents.db") as saver:
    graph = builder.compile(checkpointer=saver)
"""

from importlib.util import find_spec

from aiecs.core.errors import MissingExtraError

if find_spec("langgraph") is None:
    raise MissingExtraError("the LangGraph saver", "langgraph")

from aiecs.integrations.langgraph.saver import ContextEngineSaver
from aiecs.integrations.langgraph.store import ContextEngineStore
from aiecs.integrations.langgraph.strict import BlockedTypeError

__all__ = ["BlockedTypeError", "ContextEngineSaver", "ContextEngineStore"]
