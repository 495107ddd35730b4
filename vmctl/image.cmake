# Images: the store, and building them.
aios_module(image
  SOURCES image.c image_build.c image_program.c image_recipe.c image_tree.c
  PUBLIC computer)
target_compile_definitions(image PRIVATE AIOS_RECIPES="${CMAKE_SOURCE_DIR}/images")
install(DIRECTORY ${CMAKE_SOURCE_DIR}/images/base ${CMAKE_SOURCE_DIR}/images/desktop
  DESTINATION share/aios/images)

add_unit_test(image image)

# The images, built and booted: minutes, and nothing in them depends on how the program was built.
# Images are kept in build/images for the builds of all kinds.
if(BUILD_TESTING AND NOT AIOS_SANITIZE)
  foreach(stem image desktop)
    add_executable(test_machine_${stem}
      ${CMAKE_SOURCE_DIR}/tests/integration/machine/test_${stem}.c)
    target_link_libraries(test_machine_${stem} PRIVATE image vmctl guest_image early_image
      test_support PkgConfig::CMOCKA aios_flags)
    target_compile_definitions(test_machine_${stem} PRIVATE
      AIOS_TEST_IMAGES="${CMAKE_SOURCE_DIR}/build/images")
    set_target_properties(test_machine_${stem} PROPERTIES
      RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME vm.${stem} COMMAND test_machine_${stem})
    set_tests_properties(vm.${stem} PROPERTIES LABELS "integration;vm" TIMEOUT 3600
      SKIP_RETURN_CODE 77)
  endforeach()
endif()
one_machine_at_a_time()
