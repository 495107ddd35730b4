# The driver of the family document: Python that runs inside a computer, part of the program as it is.
file(GLOB document_drivers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/drivers/document*)
set_source_files_properties(document_parts.S PROPERTIES
  OBJECT_DEPENDS "${document_drivers}"
  COMPILE_OPTIONS "-Wa,-I${CMAKE_CURRENT_SOURCE_DIR}/drivers")
target_sources(tools PRIVATE document_parts.S)

add_unit_test(document_answer tools)
add_fuzz_target(document_answer tools)

# The driver itself, as far as it needs no computer.
if(BUILD_TESTING)
  add_test(NAME unit.document_driver
    COMMAND python3 ${CMAKE_SOURCE_DIR}/tests/unit/test_document_driver.py)
  set_tests_properties(unit.document_driver PROPERTIES LABELS unit TIMEOUT 600)
endif()
