add_unit_test(frame mcp)
add_unit_test(jsonrpc mcp)
add_unit_test(revision mcp)
