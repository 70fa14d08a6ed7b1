"""Tools for agents, over the Model Context Protocol: parse, call one service function, answer."""
