# The family desktop, and what it runs inside: Python that is part of the program as it is.
set_source_files_properties(desktop_script.S PROPERTIES
  OBJECT_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/drivers/desktop_tree.py"
  COMPILE_OPTIONS "-Wa,-I${CMAKE_CURRENT_SOURCE_DIR}/drivers")
target_sources(tools PRIVATE desktop_script.S)

add_unit_test(desktop_keys tools)
add_unit_test(desktop_load tools)
