# Clusters, services with a load balancer, names and scaling. The hosts are in the cluster `default`: one with
# hosts cannot be destroyed, so `shop` has none.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.0"
    }
  }
}

variable "image" { type = string }
variable "desired_count" { type = number }
variable "release" {
  type    = number
  default = 1
}

# Endpoint, region and keys come from the environment.
provider "aws" {
  default_tags {
    tags = { stack = "shop" }
  }
}

locals {
  tags = { release = tostring(var.release) }
}

resource "aws_ecs_capacity_provider" "rack" {
  name = "rack"
  tags = local.tags

  auto_scaling_group_provider {
    auto_scaling_group_arn = "arn:aws:autoscaling:us-east-1:000000000000:autoScalingGroup:1:autoScalingGroupName/rack"
  }
}

resource "aws_ecs_cluster" "shop" {
  name = "shop"
  tags = local.tags

  setting {
    name  = "containerInsights"
    value = var.release == 1 ? "enabled" : "disabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "shop" {
  cluster_name       = aws_ecs_cluster.shop.name
  capacity_providers = [aws_ecs_capacity_provider.rack.name, "FARGATE", "FARGATE_SPOT"]

  default_capacity_provider_strategy {
    capacity_provider = aws_ecs_capacity_provider.rack.name
    base              = 1
    weight            = var.release
  }
}

resource "aws_cloudwatch_log_group" "web" {
  name              = "/shop/web"
  retention_in_days = var.release == 1 ? 7 : 14
  tags              = local.tags
}

resource "aws_service_discovery_private_dns_namespace" "shop" {
  name = "shop.internal"
  vpc  = "any"
  tags = local.tags
}

resource "aws_service_discovery_http_namespace" "calls" {
  name = "calls"
  tags = local.tags
}

resource "aws_service_discovery_service" "web" {
  name = "web"

  dns_config {
    namespace_id = aws_service_discovery_private_dns_namespace.shop.id

    dns_records {
      type = "A"
      ttl  = 10 * var.release
    }
  }
}

data "aws_security_group" "default" {
  name = "default"
}

resource "aws_lb" "web" {
  name    = "web"
  subnets = ["subnet-1"]
  tags    = local.tags
}

resource "aws_lb_target_group" "web" {
  name                 = "web"
  target_type          = "ip"
  protocol             = "HTTP"
  port                 = 80
  vpc_id               = data.aws_security_group.default.vpc_id # the provider insists on it
  deregistration_delay = 0
  tags                 = local.tags

  health_check {
    path = "/health/${var.release}"
  }
}

resource "aws_lb_listener" "web" {
  load_balancer_arn = aws_lb.web.arn
  protocol          = "HTTP"
  port              = 80
  tags              = local.tags

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.web.arn
  }
}

resource "aws_lb_listener_rule" "old" {
  listener_arn = aws_lb_listener.web.arn
  priority     = 10 * var.release
  tags         = local.tags

  condition {
    path_pattern {
      values = ["/old/*"]
    }
  }

  action {
    type = "fixed-response"

    fixed_response {
      content_type = "text/plain"
      status_code  = "410"
    }
  }
}

resource "aws_ecs_task_definition" "web" {
  family       = "web"
  network_mode = "awsvpc"
  tags         = local.tags

  container_definitions = jsonencode([{
    name         = "web"
    image        = var.image
    memory       = 32
    command      = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"]
    environment  = [{ name = "RELEASE", value = tostring(var.release) }]
    portMappings = [{ containerPort = 80 }]
  }])
}

resource "aws_ecs_service" "web" {
  name                  = "web"
  cluster               = "default"
  task_definition       = aws_ecs_task_definition.web.arn
  desired_count         = var.desired_count
  launch_type           = "EC2"
  wait_for_steady_state = true
  tags                  = local.tags

  network_configuration {
    subnets = ["subnet-1"]
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.web.arn
    container_name   = "web"
    container_port   = 80
  }

  service_registries {
    registry_arn = aws_service_discovery_service.web.arn
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  depends_on = [aws_lb_listener.web]
}

resource "aws_appautoscaling_target" "web" {
  service_namespace  = "ecs"
  resource_id        = "service/default/${aws_ecs_service.web.name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = var.desired_count
  max_capacity       = 4 + var.release
}

resource "aws_appautoscaling_policy" "cpu" {
  name               = "cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.web.service_namespace
  resource_id        = aws_appautoscaling_target.web.resource_id
  scalable_dimension = aws_appautoscaling_target.web.scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value = 50 + var.release

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

resource "aws_appautoscaling_policy" "step" {
  name               = "step"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.web.service_namespace
  resource_id        = aws_appautoscaling_target.web.resource_id
  scalable_dimension = aws_appautoscaling_target.web.scalable_dimension

  step_scaling_policy_configuration {
    adjustment_type         = "ChangeInCapacity"
    cooldown                = 60
    metric_aggregation_type = "Average"

    step_adjustment {
      metric_interval_lower_bound = 0
      scaling_adjustment          = var.release
    }
  }
}

resource "aws_appautoscaling_scheduled_action" "day" {
  name               = "day"
  service_namespace  = aws_appautoscaling_target.web.service_namespace
  resource_id        = aws_appautoscaling_target.web.resource_id
  scalable_dimension = aws_appautoscaling_target.web.scalable_dimension
  schedule           = "cron(0 8 * * ? *)"
  timezone           = "Europe/Berlin"

  scalable_target_action {
    min_capacity = var.desired_count
    max_capacity = 4 + var.release
  }
}
