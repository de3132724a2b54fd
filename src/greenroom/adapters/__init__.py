"""The engines that come with Greenroom. Importing this package imports none of them."""
