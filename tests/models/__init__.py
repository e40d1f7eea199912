"""Exhaustive models of protocols: each visits every state. A protocol and its model change together."""
