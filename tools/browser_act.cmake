# The script of browser_snapshot and browser_act: files of tools/page, made part of the program.
file(GLOB page_scripts CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/page/*)
set_source_files_properties(browser_script.S PROPERTIES
  OBJECT_DEPENDS "${page_scripts}"
  COMPILE_OPTIONS "-Wa,-I${CMAKE_CURRENT_SOURCE_DIR}/page")
target_sources(tools PRIVATE browser_script.S)

add_unit_test(browser_keys tools)
add_unit_test(browser_outline tools)
