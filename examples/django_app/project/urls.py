"""Where requests go."""

from django.urls import path
from reviews import views

urlpatterns = [
    path("reviews/", views.create),
    path("reviews/<int:review_id>/", views.read),
]
