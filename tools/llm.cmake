# The family llm.
add_unit_test(llm_tools tools kernel llm
  WRAP kernel_llm kernel_config kernel_storage tool_call_preempted tool_call_yield tool_call_resume
    http_send llm_retry_pause)
add_unit_test(llm_turns tools kernel llm http_script WRAP kernel_llm)
add_unit_test(llm_restart tools kernel llm http_script
  WRAP kernel_llm kernel_config kernel_storage tool_call_preempted tool_call_resume clock_wall_ns)
