# The family memory and its test.

add_unit_test(memory_tools tools kernel memory base WRAP kernel_memory tool_call_yield
  tool_call_resume)
add_unit_test(memory_together tools kernel memory llm base http_script
  WRAP memory_sooner)
